"""`python -m seqc …` is the program `seqc …`."""

from seqc.cli import main

if __name__ == "__main__":
    main()
