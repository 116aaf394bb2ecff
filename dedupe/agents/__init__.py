"""Tools of agents that run as workflows: they are called in the workflow, and each takes effect once per key.

`openai` and `pydantic_ai` each need their framework: the extras `openai-agents` and `pydantic-ai`.
"""
