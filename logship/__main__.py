"""`python -m logship` is `logship`."""

from logship.cli import main

if __name__ == "__main__":
    main()
