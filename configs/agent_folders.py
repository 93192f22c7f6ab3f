"""Where agents are kept."""

from configs.section import Section


class AgentFolders(Section):
    """A person's own blueprints, and what became of each agent."""

    blueprints: str = ".agentfactory/blueprints"
    """Blueprints of your own."""
    versions: str = ".agentfactory/agents"
    """Each agent's versions, their evaluations, and which one is in use."""
