// imgwas associate as tasks that share nothing: each computes every n-th part of the scan, the last
// step puts the parts together. A task that is lost is run again; the numbers do not depend on how
// many tasks there are.
//
// nextflow run main.nf --bfile cohort --latents latents.parquet --covar covariates.tsv --tasks 20

nextflow.enable.dsl = 2

params.bfile = null
params.latents = null
params.covar = null
params.options = ''
params.tasks = 20
params.cpus = 4
params.out = 'results'

process SHARE {
    cpus params.cpus
    maxRetries 3
    errorStrategy { task.exitStatus in [6, 7, 8, 13, 21] ? 'terminate' : 'retry' }

    input:
    val number
    path genotypes
    path latents
    path covariates

    output:
    path "share-${number}.tar"

    script:
    def covar = params.covar ? "--covar ${covariates}" : ''
    """
    imgwas associate --bfile ${file(params.bfile).name} --latents ${latents} ${covar} \\
      ${params.options} --ignore-file-times --threads ${task.cpus} \\
      --part ${number}/${params.tasks} --out share
    tar -cf share-${number}.tar -C share run.json parts private
    """
}

process FINISH {
    publishDir '.', mode: 'copy'

    input:
    path shares
    path genotypes
    path latents
    path covariates

    output:
    path "${params.out}"

    script:
    def covar = params.covar ? "--covar ${covariates}" : ''
    """
    mkdir ${params.out}
    for share in ${shares}; do tar -xf \$share -C ${params.out}; done
    imgwas associate --bfile ${file(params.bfile).name} --latents ${latents} ${covar} \\
      ${params.options} --ignore-file-times --finish --out ${params.out}
    imgwas verify ${params.out}
    """
}

workflow {
    genotypes = Channel.fromPath("${params.bfile}.{bed,bim,fam}").collect()
    latents = Channel.fromPath(params.latents).first()
    covariates = params.covar ? Channel.fromPath(params.covar).first() : Channel.value([])
    shares = SHARE(Channel.of(1..params.tasks), genotypes, latents, covariates)
    FINISH(shares.collect(), genotypes, latents, covariates)
}
