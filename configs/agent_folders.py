"""Where agents are kept."""

from .paths import PlaceText
from .section import Section


class AgentFolders(Section):
    """A person's own blueprints, and what became of each agent."""

    blueprints: PlaceText = ".agentfactory/blueprints"
    """Blueprints of your own."""
    versions: PlaceText = ".agentfactory/agents"
    """Each agent's versions, their evaluations, and which one is in use."""
