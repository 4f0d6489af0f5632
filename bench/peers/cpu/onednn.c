// One product by oneDNN: y[m, n] = x[m, k] w[k, n], the weights reordered ahead into the layout that oneDNN
// chooses. by_onednn.py compiles it, because a loop in Python would add a microsecond to each call.
#include <dnnl.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct product {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_t primitive;
  dnnl_memory_t x, w, y;
  dnnl_exec_arg_t arguments[3];
};

static dnnl_status_t plain(dnnl_memory_t *memory, struct product *p, int64_t rows, int64_t columns,
                           dnnl_data_type_t type, void *data) {
  dnnl_memory_desc_t desc;
  dnnl_status_t status = dnnl_memory_desc_create_with_tag(&desc, 2, (dnnl_dims_t){rows, columns}, type, dnnl_ab);
  if (status == dnnl_success) {
    status = dnnl_memory_create(memory, desc, p->engine, data);
    dnnl_memory_desc_destroy(desc);
  }
  return status;
}

static dnnl_status_t describe(dnnl_primitive_desc_t *made, struct product *p, int64_t m, int64_t n, int64_t k,
                              dnnl_data_type_t type) {
  dnnl_memory_desc_t x, w, y;
  dnnl_memory_desc_create_with_tag(&x, 2, (dnnl_dims_t){m, k}, type, dnnl_ab);
  dnnl_memory_desc_create_with_tag(&w, 2, (dnnl_dims_t){k, n}, type, dnnl_format_tag_any);
  dnnl_memory_desc_create_with_tag(&y, 2, (dnnl_dims_t){m, n}, dnnl_f32, dnnl_ab);
  dnnl_status_t status = dnnl_matmul_primitive_desc_create(made, p->engine, x, w, NULL, y, NULL);
  dnnl_memory_desc_destroy(x);
  dnnl_memory_desc_destroy(w);
  dnnl_memory_desc_destroy(y);
  return status;
}

static dnnl_status_t pack(struct product *p, const_dnnl_primitive_desc_t of, dnnl_memory_t from) {
  const_dnnl_memory_desc_t desc = dnnl_primitive_desc_query_md(of, dnnl_query_weights_md, 0);
  dnnl_primitive_desc_t described;
  dnnl_primitive_t reorder;
  dnnl_status_t status = dnnl_memory_create(&p->w, desc, p->engine, DNNL_MEMORY_ALLOCATE);
  if (status != dnnl_success)
    return status;
  const_dnnl_memory_desc_t source;
  dnnl_memory_get_memory_desc(from, &source);
  status = dnnl_reorder_primitive_desc_create(&described, source, p->engine, desc, p->engine, NULL);
  if (status != dnnl_success)
    return status;
  status = dnnl_primitive_create(&reorder, described);
  dnnl_primitive_desc_destroy(described);
  if (status != dnnl_success)
    return status;
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, p->w}};
  status = dnnl_primitive_execute(reorder, p->stream, 2, arguments);
  if (status == dnnl_success)
    status = dnnl_stream_wait(p->stream);
  dnnl_primitive_destroy(reorder);
  return status;
}

/// `type` is that of x and w; the result is f32. `implementation` receives oneDNN's name for its kernel. 0 or a
/// dnnl_status_t.
int product_create(struct product **made, int64_t m, int64_t n, int64_t k, int type, void *x, void *w, void *y,
                   const char **implementation) {
  struct product *p = calloc(1, sizeof *p);
  dnnl_primitive_desc_t described;
  dnnl_memory_t given;
  dnnl_status_t status = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
  if (status == dnnl_success)
    status = dnnl_stream_create(&p->stream, p->engine, dnnl_stream_in_order);
  if (status == dnnl_success)
    status = describe(&described, p, m, n, k, (dnnl_data_type_t)type);
  if (status != dnnl_success)
    return status;
  dnnl_primitive_desc_query(described, dnnl_query_impl_info_str, 0, implementation);
  status = plain(&given, p, k, n, (dnnl_data_type_t)type, w);
  if (status == dnnl_success)
    status = pack(p, described, given);
  if (status == dnnl_success)
    status = plain(&p->x, p, m, k, (dnnl_data_type_t)type, x);
  if (status == dnnl_success)
    status = plain(&p->y, p, m, n, dnnl_f32, y);
  if (status == dnnl_success)
    status = dnnl_primitive_create(&p->primitive, described);
  if (status != dnnl_success)
    return status;
  dnnl_memory_destroy(given);
  p->arguments[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->x};
  p->arguments[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, p->w};
  p->arguments[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->y};
  *made = p;
  return dnnl_success;
}

/// Seconds of `runs` runs, negative where one failed. Each is waited for: a queue of many takes SYCL longer.
double product_seconds(struct product *p, int64_t runs) {
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (int64_t i = 0; i < runs; ++i)
    if (dnnl_primitive_execute(p->primitive, p->stream, 3, p->arguments) != dnnl_success ||
        dnnl_stream_wait(p->stream) != dnnl_success)
      return -1;
  clock_gettime(CLOCK_MONOTONIC, &end);
  return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

/// "3.13.2, threads of SYCL".
void version(char *text, size_t size) {
  const dnnl_version_t *v = dnnl_version();
  const char *runtime = v->cpu_runtime == DNNL_RUNTIME_OMP ? "OpenMP" : v->cpu_runtime == DNNL_RUNTIME_DPCPP ? "SYCL" : "another kind";
  snprintf(text, size, "%d.%d.%d, threads of %s", v->major, v->minor, v->patch, runtime);
}

void product_destroy(struct product *p) {
  dnnl_primitive_destroy(p->primitive);
  dnnl_memory_destroy(p->x);
  dnnl_memory_destroy(p->w);
  dnnl_memory_destroy(p->y);
  dnnl_stream_destroy(p->stream);
  dnnl_engine_destroy(p->engine);
  free(p);
}
