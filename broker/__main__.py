"""`python -m broker` is `code-interpreter`."""

from broker.command import main

if __name__ == "__main__":
    main()
