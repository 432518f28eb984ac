"""The command line of imgwas, installed as ``imgwas_cli``."""
