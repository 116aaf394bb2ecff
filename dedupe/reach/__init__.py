"""Calls from elsewhere: a process with a client and no job makes them, through a job of this package's."""
