"""One module per command or small family; each is imported only when its command is asked for."""
