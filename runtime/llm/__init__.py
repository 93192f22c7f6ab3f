"""Chat models: messages in, text out, behind one interface whoever runs them.

    async with open_model(OllamaModelSettings()) as model:
        reply = await model.chat([UserMessage(text="hi")])
        async with model.stream([UserMessage(text="hi")]) as pieces:
            async for piece in pieces: ...

`chat_model` and `call_policy` hold what all share (rate limits, retries, deadlines, truncation, usage and
cost); each module of `backends` speaks one language; `routing` chooses between several models.
"""

from .chat_model import ChatModel, ReplyStream
from .factory import TRAINING, capabilities_of, open_model, require

__all__ = ["TRAINING", "ChatModel", "ReplyStream", "capabilities_of", "open_model", "require"]
