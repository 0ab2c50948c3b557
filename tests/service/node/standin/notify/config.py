from tests.service.node.standin import Settings as Settings
