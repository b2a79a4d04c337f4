{{/* What is needed in each watched namespace, Secrets apart. */}}
{{- define "whygate.namespaceRules" -}}
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [whygate.dev]
  resources: [accesspolicies, accessplans, accesssubscriptions]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
- apiGroups: [whygate.dev]
  resources: [accesspolicies/status, accessplans/status, accesssubscriptions/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [events]
  verbs: [get, create, patch]
{{- end -}}

{{/* Secrets. They can be selected by type or label in a request, but not in a right. */}}
{{- define "whygate.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
{{- end -}}

{{/* ConfigMaps, where they are asked for: selected by label in a request, but not in a right. */}}
{{- define "whygate.configMapRules" -}}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch]
{{- end -}}

{{/* What lies outside of namespaces. */}}
{{- define "whygate.clusterRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingressclasses]
  verbs: [list, watch]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [accesspolicies.whygate.dev, accessplans.whygate.dev, accesssubscriptions.whygate.dev]
  verbs: [get]
# Who asks for a record of refusals, and whether that caller may see it.
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end -}}

{{/* A Role, and who has it: context, namespace, suffix of the name, rules. */}}
{{- define "whygate.role" -}}
{{- $name := printf "%s%s" (include "whygate.fullname" .root) .suffix -}}
{{- if ne .namespace .root.Release.Namespace -}}
{{- $name = printf "%s%s" (include "whygate.clusterName" .root) .suffix -}}
{{- end -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ .namespace }}
  labels: {{- include "whygate.labels" .root | nindent 4 }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .namespace }}
  labels: {{- include "whygate.labels" .root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ include "whygate.serviceAccountName" .root }}, namespace: {{ .root.Release.Namespace }}}]
{{- end -}}
