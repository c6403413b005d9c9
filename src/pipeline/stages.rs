//! The stages of a run, started last to first, and their addresses.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::metered::{create, start};
use super::{Plan, StageAddresses, World, alarms, report_facts};
use crate::actors::activity::Root;
use crate::actors::batch_submitter::{
    BatchSubmitter, BatchSubmitterPeers, BatchSubmitterPorts, LineWriter,
};
use crate::actors::conductor::{Conductor, Stages};
use crate::actors::order_desk::{Clerk, OrderDesk};
use crate::actors::poller::{Poller, PollerPeers};
use crate::actors::result_processor::{
    ReportFacts, ResultProcessor, ResultProcessorPeers, ResultProcessorPorts,
};
use crate::actors::scanner::{Scanner, ScannerPeers};
use crate::actors::state::StateActor;
use crate::actors::uploader::transfer::Transfer;
use crate::actors::uploader::{Uploader, UploaderPeers, UploaderPorts};
use crate::actors::wish::WishDesk;
use crate::meter::Stage;
use crate::report;

/// Starts the stages last to first, so that each is given the addresses it needs at birth. The
/// uploader is both near the beginning and at the end of the circle, so its address is taken from
/// its own context before it is made.
pub(super) fn start_stages(
    world: World,
    plan: Plan,
    state: &Addr<StateActor>,
    conductor: &Addr<Conductor>,
    root: &Root,
) -> StageAddresses {
    let transfer = Rc::new(Transfer::new(
        plan.transfer.clone(),
        Rc::clone(&world.files),
        Rc::clone(&world.clock),
    ));
    let alerter = alarms::start_alerter(&world, &plan, state);
    let mut others = None;
    let uploader = create(plan.meter.as_ref(), Stage::Uploader, |ctx| {
        let uploader = ctx.address();
        let scanner = start_scanner(&world, &plan, state, conductor, root, &uploader);
        let processor = start_processor(&world, &plan, state, root, &scanner, &uploader);
        let poller = start_poller(&world, &plan, state, root, &processor, &uploader);
        let submitter = start_submitter(&world, &plan, state, root, &poller, &uploader, &transfer);
        let peers = UploaderPeers {
            state: state.clone(),
            uploaded: submitter.clone().recipient(),
        };
        let order_desk = start_order_desk(&world, &plan, state, root, &uploader);
        others = Some((scanner, submitter, poller, processor, order_desk));
        Uploader::new(
            plan.uploader.clone(),
            peers,
            root.clone(),
            UploaderPorts {
                source: Rc::clone(&world.source),
                files: Rc::clone(&world.files),
                batches: Rc::clone(&world.batches),
                clock: Rc::clone(&world.clock),
                entropy: Rc::clone(&world.entropy),
                transfer: Rc::clone(&transfer),
            },
        )
    });
    let (scanner, submitter, poller, processor, order_desk) =
        others.expect("the uploader's making starts the others");
    StageAddresses {
        scanner,
        uploader,
        submitter,
        poller,
        processor,
        order_desk,
        alerter,
    }
}

fn start_order_desk(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    uploader: &Addr<Uploader>,
) -> Addr<OrderDesk> {
    let clerk = Clerk {
        wishes: WishDesk {
            state: state.clone(),
            batches: Some(Rc::clone(&world.batches)),
            clock: Rc::clone(&world.clock),
            release: plan.poller.release,
            brake: plan.poller.brake,
        },
        sink: Rc::clone(&world.sink),
        beside_stages: true,
    };
    let registered = uploader.clone().recipient();
    OrderDesk::new(plan.order_desk.clone(), clerk, registered, root.clone()).start()
}

fn start_scanner(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    conductor: &Addr<Conductor>,
    root: &Root,
    uploader: &Addr<Uploader>,
) -> Addr<Scanner> {
    let peers = ScannerPeers {
        state: state.clone(),
        registered: uploader.clone().recipient(),
        done: conductor.clone().recipient(),
    };
    let (source, clock) = (Rc::clone(&world.source), Rc::clone(&world.clock));
    let scanner = Scanner::new(plan.scanner.clone(), peers, root.clone(), source, clock);
    start(plan.meter.as_ref(), Stage::Scanner, scanner)
}

fn start_processor(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    scanner: &Addr<Scanner>,
    uploader: &Addr<Uploader>,
) -> Addr<ResultProcessor> {
    let peers = ResultProcessorPeers {
        state: state.clone(),
        unlocked: scanner.clone().recipient(),
        released: uploader.clone().recipient(),
    };
    let ports = ResultProcessorPorts {
        source: Rc::clone(&world.source),
        files: Rc::clone(&world.files),
        batches: Rc::clone(&world.batches),
        sink: Rc::clone(&world.sink),
        clock: Rc::clone(&world.clock),
    };
    let validator = Arc::clone(&plan.validator);
    let report = Rc::new(|facts: &ReportFacts| report::batch::markdown(&report_facts(facts)));
    let processor = ResultProcessor::new(
        plan.processor.clone(),
        peers,
        root.clone(),
        ports,
        validator,
        report,
    );
    start(plan.meter.as_ref(), Stage::ResultProcessor, processor)
}

fn start_poller(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    processor: &Addr<ResultProcessor>,
    uploader: &Addr<Uploader>,
) -> Addr<Poller> {
    let peers = PollerPeers {
        state: state.clone(),
        ready: processor.clone().recipient(),
        released: uploader.clone().recipient(),
    };
    let (batches, clock) = (Rc::clone(&world.batches), Rc::clone(&world.clock));
    let entropy = Rc::clone(&world.entropy);
    let poller = Poller::new(
        plan.poller.clone(),
        peers,
        root.clone(),
        batches,
        clock,
        entropy,
    );
    start(plan.meter.as_ref(), Stage::Poller, poller)
}

fn start_submitter(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    poller: &Addr<Poller>,
    uploader: &Addr<Uploader>,
    transfer: &Rc<Transfer>,
) -> Addr<BatchSubmitter> {
    let peers = BatchSubmitterPeers {
        state: state.clone(),
        submitted: poller.clone().recipient(),
        released: uploader.clone().recipient(),
        room: uploader.clone().recipient(),
    };
    let ports = BatchSubmitterPorts {
        batches: Rc::clone(&world.batches),
        source: Rc::clone(&world.source),
        sink: Rc::clone(&world.sink),
        clock: Rc::clone(&world.clock),
        entropy: Rc::clone(&world.entropy),
        transfer: Rc::clone(transfer),
    };
    let writer = LineWriter::new(
        Arc::clone(&plan.recipe),
        plan.layout.clone(),
        plan.chained,
        plan.prices.clone(),
    );
    let submitter = BatchSubmitter::new(plan.submitter.clone(), peers, root.clone(), ports, writer);
    start(plan.meter.as_ref(), Stage::BatchSubmitter, submitter)
}

impl StageAddresses {
    pub(super) fn for_root(&self) -> Stages {
        let StageAddresses {
            scanner,
            uploader,
            submitter,
            poller,
            processor,
            order_desk,
            alerter,
        } = self;
        let mut stages = Stages {
            rescan: scanner.clone().recipient(),
            // What is ready, then what the jobs offer now.
            collectors: vec![
                (processor.clone().recipient(), processor.clone().recipient()),
                (poller.clone().recipient(), poller.clone().recipient()),
                (processor.clone().recipient(), processor.clone().recipient()),
            ],
            // Collection is ticked before uploads, so that start-up collects before it uploads.
            ticks: vec![
                order_desk.clone().recipient(),
                processor.clone().recipient(),
                poller.clone().recipient(),
                submitter.clone().recipient(),
                uploader.clone().recipient(),
            ],
            alerter: alerter.clone().map(Addr::recipient),
            drains: vec![
                order_desk.clone().recipient(),
                scanner.clone().recipient(),
                uploader.clone().recipient(),
                submitter.clone().recipient(),
                poller.clone().recipient(),
                processor.clone().recipient(),
            ],
            leaves: vec![
                order_desk.clone().recipient(),
                scanner.clone().recipient(),
                uploader.clone().recipient(),
                submitter.clone().recipient(),
                poller.clone().recipient(),
                processor.clone().recipient(),
            ],
        };
        // Last, so that it sees how everything ended.
        stages.drains.extend(alerter.clone().map(Addr::recipient));
        stages.leaves.extend(alerter.clone().map(Addr::recipient));
        stages
    }
}
