"""Evaluation: what models say about pictures whose categories people gave."""
