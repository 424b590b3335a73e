"""Encoded bytes to model inputs, and boxes back to pixels."""
