"""One module per command, or per small group of commands. Each is imported only when its command is called."""
