"""`python -m mpdispatch` is the `mpdispatch` command."""

from mpdispatch.cli import main

if __name__ == "__main__":
    main()
