"""Where objects go."""
