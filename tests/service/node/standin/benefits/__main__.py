import asyncio

from tests.service.node.standin import main
from tests.service.node.standin import serve as serve

if __name__ == "__main__":
    asyncio.run(main())
