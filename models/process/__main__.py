"""``python -m models.process``: the child."""

from models.process.child import main

if __name__ == "__main__":
    main()
