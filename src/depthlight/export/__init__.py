"""From a torch network to a file other runtimes read, behind a parity gate."""
