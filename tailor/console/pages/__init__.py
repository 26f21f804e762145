"""Pages of the console: a module a page, found by `tailor.console.app`."""
