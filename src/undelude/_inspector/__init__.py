"""The inspector: one episode in the browser, with a switch between see and do at each past action."""
