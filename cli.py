"""From a clone, without installing: `python cli.py …` is `python -m seqc …`."""

from seqc.cli import main

if __name__ == "__main__":
    main()
