"""What workers do because somebody rang, or because it is time."""
