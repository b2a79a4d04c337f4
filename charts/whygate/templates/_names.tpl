{{- define "whygate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Names of objects. Suffixes of up to ten characters still fit into the 63 of a Service's name. */}}
{{- define "whygate.fullname" -}}
{{- $name := include "whygate.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of objects outside of namespaces: releases of one name in two namespaces must not meet. */}}
{{- define "whygate.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "whygate.fullname" .) -}}
{{- end -}}

{{- define "whygate.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "whygate.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What a Service or a PodDisruptionBudget finds the gateway's pods by. It can never change. */}}
{{- define "whygate.selector" -}}
app.kubernetes.io/name: {{ include "whygate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "whygate.labels" -}}
{{- $own := dict
      "app.kubernetes.io/name" (include "whygate.name" .)
      "app.kubernetes.io/instance" .Release.Name
      "app.kubernetes.io/component" "gateway"
      "app.kubernetes.io/part-of" "whygate"
      "app.kubernetes.io/managed-by" .Release.Service
      "app.kubernetes.io/version" .Chart.AppVersion
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own .Values.commonLabels) -}}
{{- end -}}

{{/* Whether `helm test` can send a request and find its Event. */}}
{{- define "whygate.testable" -}}
{{- if and .Values.service.enabled .Values.listen.http (ne .Values.service.clusterIP "None") .Values.events.writesPerMinute -}}
true
{{- end -}}
{{- end -}}

{{- define "whygate.testLabels" -}}
{{- include "whygate.labels" . | replace "component: gateway" "component: test" -}}
{{- end -}}

{{/*
Annotations of what `helm test` makes; the context is the weight. All of it goes when the test has passed; after
a failure only the pod stays, for its log.
*/}}
{{- define "whygate.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ quote . }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "whygate.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Whether the chart may make objects outside of namespaces: `true` or nothing. */}}
{{- define "whygate.clusterScope" -}}
{{- if eq .Values.rbac.scope "cluster" }}true{{ end -}}
{{- end -}}

{{/* The namespaces whose Secrets may be read, as JSON; nothing if it is all of them. */}}
{{- define "whygate.secretNamespaces" -}}
{{- if eq .Values.secrets.scope "namespaces" -}}
{{- toJson .Values.secrets.namespaces -}}
{{- else if .Values.watchNamespaces -}}
{{- toJson .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}

{{/* The namespaces whose ConfigMaps may be read, as JSON; nothing if it is all of them. */}}
{{- define "whygate.configMapNamespaces" -}}
{{- if eq .Values.configMaps.scope "namespaces" -}}
{{- toJson .Values.configMaps.namespaces -}}
{{- else if eq .Values.configMaps.scope "none" -}}
[]
{{- else if .Values.watchNamespaces -}}
{{- toJson .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}

{{/* Where the Ingress of `helm test` lives: somewhere we watch. */}}
{{- define "whygate.testNamespace" -}}
{{- if .Values.test.namespace -}}
{{- .Values.test.namespace -}}
{{- else if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- first .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}

{{/* Thousandths of a CPU in a quantity: `500m`, `2`, `1.5`. */}}
{{- define "whygate.millis" -}}
{{- $text := toString . -}}
{{- if hasSuffix "m" $text -}}
{{- trimSuffix "m" $text | int -}}
{{- else -}}
{{- mulf (float64 $text) 1000 | int -}}
{{- end -}}
{{- end -}}
