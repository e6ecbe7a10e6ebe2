"""How a run begins: the command line, and what is done before a trainer is asked."""
