"""Tables made of result rows; nothing here imports torch."""
