#include "media/edge.h"

#include <vector>

namespace cfr {

namespace {

Edge* edge_of(gpointer data) {
  return static_cast<std::shared_ptr<Edge>*>(data)->get();
}

// The streaming thread is the only writer, under the pad's stream lock.
void add(std::atomic<uint64_t>& counter, uint64_t packets) {
  counter.store(counter.load(std::memory_order_relaxed) + packets, std::memory_order_relaxed);
}

// A push to the old peer that returns when the pad has another marks its event as received, and
// that peer would never see it, caps say. What is stored again counts as new.
void bring_all(Edge* edge, GstPad* entry) {
  if (!edge->relinked.load(std::memory_order_relaxed) || !edge->relinked.exchange(false)) return;
  std::vector<GstEvent*> events;
  GstPad* ghost = GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(entry)));
  gst_pad_sticky_events_foreach(
      ghost,
      [](GstPad*, GstEvent** event, gpointer data) -> gboolean {
        static_cast<std::vector<GstEvent*>*>(data)->push_back(gst_event_copy(*event));
        return TRUE;
      },
      &events);
  for (GstEvent* event : events) {
    gst_pad_store_sticky_event(ghost, event);
    gst_event_unref(event);
  }
  gst_object_unref(ghost);
}

// False: shut, to be dropped.
bool enters(Edge* edge, GstPad* entry, uint64_t packets) {
  add(edge->seen, packets);
  // acquire: what connect() has set up before is seen
  if (!edge->open.load(std::memory_order_acquire)) return false;
  bring_all(edge, entry);
  if (edge->asking.load(std::memory_order_relaxed)) edge->on_packet();
  return true;
}

// The other side is being replaced, or has failed: its owner deals with that, not our streams.
GstFlowReturn left(Edge* edge, uint64_t packets, GstFlowReturn flow) {
  if (flow == GST_FLOW_OK) {
    add(edge->passed, packets);
    if (edge->fresh.load(std::memory_order_relaxed) && edge->fresh.exchange(false) &&
        edge->on_first_packet)
      edge->on_first_packet();
  }
  if (flow != edge->last_flow) {
    edge->last_flow = flow;
    if (edge->on_flow) edge->on_flow(flow);
  }
  return GST_FLOW_OK;
}

GstFlowReturn edge_chain(GstPad* pad, GstObject* parent, GstBuffer* buffer) {
  Edge* edge = edge_of(pad->chaindata);
  if (!enters(edge, pad, 1)) {
    gst_buffer_unref(buffer);
    return GST_FLOW_OK;
  }
  if (edge->rewrite && !(buffer = edge->rewrite(buffer))) return GST_FLOW_OK;
  return left(edge, 1, gst_proxy_pad_chain_default(pad, parent, buffer));
}

gboolean rewrite_one(GstBuffer** buffer, guint, gpointer edge) {
  *buffer = static_cast<Edge*>(edge)->rewrite(*buffer);  // nullptr removes it
  return TRUE;
}

GstFlowReturn edge_chain_list(GstPad* pad, GstObject* parent, GstBufferList* list) {
  Edge* edge = edge_of(pad->chainlistdata);
  guint length = gst_buffer_list_length(list);
  if (!enters(edge, pad, length)) {
    gst_buffer_list_unref(list);
    return GST_FLOW_OK;
  }
  if (edge->rewrite) {
    list = gst_buffer_list_make_writable(list);
    gst_buffer_list_foreach(list, rewrite_one, edge);
  }
  return left(edge, length, gst_proxy_pad_chain_list_default(pad, parent, list));
}

gboolean edge_event(GstPad* pad, GstObject* parent, GstEvent* event) {
  Edge* edge = edge_of(pad->eventdata);
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_EOS:
      gst_event_unref(event);
      if (edge->on_eos) edge->on_eos();
      return TRUE;
    case GST_EVENT_FLUSH_START:
    case GST_EVENT_FLUSH_STOP:
      // Behind the edge other streams share elements that a flush would empty.
      gst_event_unref(event);
      return TRUE;
    default: break;
  }
  if (edge->on_event) edge->on_event(event);
  if (gst_event_type_get_flags(GST_EVENT_TYPE(event)) & GST_EVENT_TYPE_SERIALIZED)
    bring_all(edge, pad);
  gst_pad_event_default(pad, parent, event);  // sticky ones wait for the next link
  return TRUE;
}

}  // namespace

void install_edge(GstPad* ghost, std::shared_ptr<Edge> edge) {
  GstPad* entry = GST_PAD_IS_SRC(ghost) ? GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(ghost)))
                                        : GST_PAD(gst_object_ref(ghost));
  auto hold = [&] { return new std::shared_ptr<Edge>(edge); };
  auto drop = [](gpointer data) { delete static_cast<std::shared_ptr<Edge>*>(data); };
  gst_pad_set_chain_function_full(entry, edge_chain, hold(), drop);
  gst_pad_set_chain_list_function_full(entry, edge_chain_list, hold(), drop);
  gst_pad_set_event_function_full(entry, edge_event, hold(), drop);
  gst_object_unref(entry);
}

}  // namespace cfr
