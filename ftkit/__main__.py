"""The `ftkit` command, also as `python -m ftkit`: signals are heeded before anything else is imported.

Where a library is broken that all commands need, one line says so.
"""

import sys

from ftkit.signals import exit_status, heed_signals, stop_words


def main() -> None:
    """As `ftkit.cli.main.main`."""
    heed_signals()
    try:
        from ftkit.cli.main import main as run_command  # takes a third of a second
    except KeyboardInterrupt:
        print(stop_words(), file=sys.stderr)
        sys.exit(exit_status())
    except Exception as error:  # a broken library may raise anything while it is imported
        from ftkit.doctor.bare import without_libraries

        sys.exit(without_libraries(sys.argv[1:], error))
    run_command()


if __name__ == "__main__":
    main()
