"""What people see: renderings of the events and the report."""
