"""`python -m avdata.cli` is `avdata`."""

from avdata.cli.app import main

if __name__ == "__main__":
    main()
