"""What speed is measured with. Nothing here is used by a run."""
