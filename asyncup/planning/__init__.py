"""`asyncup plan`: what a sync would come to, found out without sending anything."""
