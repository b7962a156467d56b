"""``python -m deploy.local``: the local stack until Ctrl-C, or until a command has ended."""

from deploy.local.stack import main

main()
