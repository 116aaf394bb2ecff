"""What tells others how calls go: logs, metrics and the user's own hook. It runs where a call is answered."""
