"""What type checkers make of deduplicated calls."""
