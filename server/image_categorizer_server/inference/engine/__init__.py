"""From one decoded image to a micro-batch and back."""
