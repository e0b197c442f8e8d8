"""What an incremental run reads: bounds below which nothing can still appear."""
