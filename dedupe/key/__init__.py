"""The key's side: its workflows, who owns an execution, and how the next one begins."""
