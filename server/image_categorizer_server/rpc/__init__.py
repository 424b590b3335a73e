"""The edge: wire ↔ domain.  Converts, validates, authenticates; decides nothing."""
