"""After the scan: LD, loci, omnibus tests, heritability, replication and scores."""
