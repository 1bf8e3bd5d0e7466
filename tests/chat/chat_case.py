"""Values that the tests of the chat client share."""

from collections.abc import Callable

from radvqa_jax.chat_client import ChatClient

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
SOON = {"retry-after-ms": "1"}  # the client waits as long as the server asks, so tests do not
Make = Callable[..., ChatClient]
