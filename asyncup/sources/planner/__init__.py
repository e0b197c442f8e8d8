"""What the server says of a relation before it is read: by which index, at what cost, how much there is."""
