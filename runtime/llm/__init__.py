"""Models that answer messages with text, whoever runs them, behind one interface.

    async with open_model(OllamaModelSettings()) as model:
        reply = await model.chat([UserMessage(text="hi")])
        async with model.stream([UserMessage(text="hi")]) as pieces:
            async for piece in pieces: ...

`model` holds what all share (limits, retries, deadlines, truncation, usage and cost); each file
that ends in `_backend` speaks one language and is imported only when it is asked for.
"""

from .chat_model import ChatModel, ReplyStream
from .factory import TRAINING, capabilities_of, open_model, require

__all__ = ["TRAINING", "ChatModel", "ReplyStream", "capabilities_of", "open_model", "require"]
