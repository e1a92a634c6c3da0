#include "media/edge.h"

namespace cfr {

namespace {

Edge* edge_of(gpointer data) { return static_cast<std::shared_ptr<Edge>*>(data)->get(); }

void passed(Edge* edge, uint64_t packets) {
  edge->passed.fetch_add(packets, std::memory_order_relaxed);
  if (edge->fresh.load(std::memory_order_relaxed) && edge->fresh.exchange(false) &&
      edge->on_first_packet)
    edge->on_first_packet();
}

// The other side is being replaced, or has failed: its owner deals with that, not our streams.
GstFlowReturn edge_chain(GstPad* pad, GstObject* parent, GstBuffer* buffer) {
  Edge* edge = edge_of(pad->chaindata);
  edge->seen.fetch_add(1, std::memory_order_relaxed);
  if (!edge->open.load(std::memory_order_relaxed)) {
    gst_buffer_unref(buffer);
    return GST_FLOW_OK;
  }
  if (gst_proxy_pad_chain_default(pad, parent, buffer) == GST_FLOW_OK) passed(edge, 1);
  return GST_FLOW_OK;
}

GstFlowReturn edge_chain_list(GstPad* pad, GstObject* parent, GstBufferList* list) {
  Edge* edge = edge_of(pad->chainlistdata);
  guint length = gst_buffer_list_length(list);
  edge->seen.fetch_add(length, std::memory_order_relaxed);
  if (!edge->open.load(std::memory_order_relaxed)) {
    gst_buffer_list_unref(list);
    return GST_FLOW_OK;
  }
  if (gst_proxy_pad_chain_list_default(pad, parent, list) == GST_FLOW_OK) passed(edge, length);
  return GST_FLOW_OK;
}

gboolean edge_event(GstPad* pad, GstObject* parent, GstEvent* event) {
  Edge* edge = edge_of(pad->eventdata);
  if (GST_EVENT_TYPE(event) == GST_EVENT_EOS) {
    gst_event_unref(event);
    if (edge->on_eos) edge->on_eos();
    return TRUE;
  }
  if (edge->on_event) edge->on_event(event);
  gst_pad_event_default(pad, parent, event);  // sticky ones wait for the next link
  return TRUE;
}

}  // namespace

void install_edge(GstPad* ghost, std::shared_ptr<Edge> edge) {
  GstPad* entry = GST_PAD_IS_SRC(ghost)
                      ? GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(ghost)))
                      : GST_PAD(gst_object_ref(ghost));
  auto hold = [&] { return new std::shared_ptr<Edge>(edge); };
  auto drop = [](gpointer data) { delete static_cast<std::shared_ptr<Edge>*>(data); };
  gst_pad_set_chain_function_full(entry, edge_chain, hold(), drop);
  gst_pad_set_chain_list_function_full(entry, edge_chain_list, hold(), drop);
  gst_pad_set_event_function_full(entry, edge_event, hold(), drop);
  gst_object_unref(entry);
}

}  // namespace cfr
