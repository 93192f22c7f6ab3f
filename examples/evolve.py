"""Let a student evolve for two rounds, then ask it something.

python examples/evolve.py
"""

import asyncio

import agentfactory


async def main() -> None:
    async with agentfactory.Factory.open("laptop") as factory:
        run = await factory.evolve(rounds=2)
        async for event in run:
            if type(event).__name__ == "RoundFinished":
                print(event)
        result = await run.result()
        print(f"{result.rounds[0].pass_at_1:.2f} -> {result.rounds[-1].pass_at_1:.2f}")
        solution = await factory.solve("What is 12*(7+5)?", run_dir=result.run_dir)
        print(solution.reasoning)


if __name__ == "__main__":
    asyncio.run(main())
