"""The words x and do(x) = x + V of a language model, and chats and turns in them."""
