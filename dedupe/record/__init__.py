"""The door to the service: it reads the history of a key, acquires keys, records outcomes and ends runs."""
