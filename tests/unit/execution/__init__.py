"""What runs around an activity."""
