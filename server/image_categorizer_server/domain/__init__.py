"""Plain values that every floor speaks of."""
