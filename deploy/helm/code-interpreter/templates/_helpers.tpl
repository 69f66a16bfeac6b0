{{- define "code-interpreter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "code-interpreter.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "code-interpreter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "code-interpreter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Pods of the service, and no others: executor pods have neither this instance nor this component. */}}
{{- define "code-interpreter.selector" -}}
app.kubernetes.io/name: {{ include "code-interpreter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end }}

{{/* The labels that the service gives to the pods of its pool (pool/kube). */}}
{{- define "code-interpreter.executorSelector" -}}
app.kubernetes.io/component: executor
code-interpreter/pool: {{ include "code-interpreter.fullname" . }}
{{- end }}

{{- define "code-interpreter.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "code-interpreter.fullname" .) "default") }}
{{- end }}

{{/* {repository, tag, digest} and the chart's appVersion, as one reference. */}}
{{- define "code-interpreter.image" -}}
{{- $tag := printf ":%s" (.image.tag | default .appVersion) }}
{{- printf "%s%s" .image.repository (.image.digest | empty | ternary $tag (printf "@%s" .image.digest)) }}
{{- end }}

{{/* A quantity such as 100Mi, in MiB, rounded up. */}}
{{- define "code-interpreter.mebibytes" -}}
{{- $text := kindIs "float64" . | ternary (printf "%.0f" (float64 .)) (toString .) }}
{{- $number := regexFind "^[0-9.]+" $text }}
{{- $bytes := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 }}
{{- divf (mulf (float64 $number) (get $bytes (trimPrefix $number $text))) 1048576.0 | ceil | int64 }}
{{- end }}
