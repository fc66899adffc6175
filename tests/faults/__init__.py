"""What may befall the agent, and what it must then still be able to say: windows made = delivered + counted as lost."""
