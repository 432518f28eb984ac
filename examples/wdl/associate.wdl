version 1.0

## imgwas associate as tasks that share nothing: each computes every n-th part of the scan from its
## own copy of the inputs, the last step puts the parts together. A task that is lost is run again by
## the engine; the numbers do not depend on how many tasks there are.

workflow associate {
  input {
    File bed
    File bim
    File fam
    File latents
    File? covariates
    String options = ""
    Int n_tasks = 20
    Int cpu = 4
    Int memory_gb = 16
    String docker = "imgwas:latest"
  }

  scatter (index in range(n_tasks)) {
    call share {
      input:
        bed = bed, bim = bim, fam = fam, latents = latents, covariates = covariates,
        options = options, number = index + 1, n_tasks = n_tasks, cpu = cpu,
        memory_gb = memory_gb, docker = docker
    }
  }

  call finish {
    input:
      bed = bed, bim = bim, fam = fam, latents = latents, covariates = covariates,
      options = options, shares = share.parts, docker = docker
  }

  output {
    File results = finish.results
  }
}

task share {
  input {
    File bed
    File bim
    File fam
    File latents
    File? covariates
    String options
    Int number
    Int n_tasks
    Int cpu
    Int memory_gb
    String docker
  }

  command <<<
    set -euo pipefail
    imgwas associate --bed ~{bed} --bim ~{bim} --fam ~{fam} --latents ~{latents} \
      ~{"--covar " + covariates} ~{options} --ignore-file-times \
      --threads ~{cpu} --part ~{number}/~{n_tasks} --out share
    tar -cf share-~{number}.tar -C share run.json parts private
  >>>

  output {
    File parts = "share-~{number}.tar"
  }

  runtime {
    docker: docker
    cpu: cpu
    memory: "~{memory_gb} GB"
    preemptible: 3
    maxRetries: 2
  }
}

task finish {
  input {
    File bed
    File bim
    File fam
    File latents
    File? covariates
    String options
    Array[File] shares
    String docker
  }

  command <<<
    set -euo pipefail
    mkdir results
    for share in ~{sep=" " shares}; do tar -xf "$share" -C results; done
    imgwas associate --bed ~{bed} --bim ~{bim} --fam ~{fam} --latents ~{latents} \
      ~{"--covar " + covariates} ~{options} --ignore-file-times --finish --out results
    imgwas verify results
    tar -cf results.tar --exclude=private results
  >>>

  output {
    File results = "results.tar"
  }

  runtime {
    docker: docker
    cpu: 1
    memory: "8 GB"
  }
}
